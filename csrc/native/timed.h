/* The passes that ask for time: one process, one thread, nothing verified.
 *
 * All processes of the trace share the heap: at a fork the child's blocks are allocated anew, and at exec and
 * exit what is left is freed, both outside of the measured time.
 */
#ifndef HL_NATIVE_TIMED_H
#define HL_NATIVE_TIMED_H

/* Carries out all events, and ends the player. */
_Noreturn void play_timed(void);

#endif
