/* Everything that Python sees of the C core. */
#ifndef HEAPLAB_H
#define HEAPLAB_H

#include "machine/machine.h"

#endif
