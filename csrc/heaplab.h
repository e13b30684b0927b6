/* Everything that Python sees of the C core. */
#ifndef HEAPLAB_H
#define HEAPLAB_H
#include "conform/agent.h"
#include "heap/entry.h"
#include "machine/machine.h"
#include "replay/native.h"
#include "replay/replay.h"

#endif
