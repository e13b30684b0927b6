/* Everything that Python sees of the C core. */
#ifndef HEAPLAB_H
#define HEAPLAB_H
#include "heap/entry.h"
#include "heap/entry.h"
#include "machine/machine.h"

#endif
