/* Constants of a course's driver; for files that come without a config.h of their own. */
#ifndef HEAPLAB_CONFIG_H
#define HEAPLAB_CONFIG_H

#ifndef ALIGNMENT
#define ALIGNMENT 16
#endif
#define MAX_HEAP (100 * (1 << 20))

#endif
