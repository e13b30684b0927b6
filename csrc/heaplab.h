/* Everything that Python sees of the C core. */
#ifndef HEAPLAB_H
#define HEAPLAB_H
#include "conform/agent.h"
#include "entry/model.h"
#include "machine/machine.h"
#include "native/player.h"
#include "outside/watch.h"
#include "packing/packing.h"
#include "replay/replay.h"
#include "replay/trail.h"
#include "parts/seal.h"
#include "sources/brk.h"

#endif
