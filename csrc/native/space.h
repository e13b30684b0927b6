/* The passes that look at memory: processes are processes, threads are threads, one of them at a time.
 *
 * Whoever has the turn carries out the events that are its own, looks at memory after each, and hands the turn to
 * whose the next event is.  Everybody else sleeps.
 *
 *   a fork         the child is made ready, and then sleeps like the others
 *   an exec        the process executes the player anew, and still has the turn
 *   an exit        the next in turn waits until the process is gone, and looks then
 *   a thread ends  its process's main thread waits for it, and looks then
 *
 * The main thread of a process cannot end before it: at its THREAD_EXIT nothing happens.  pthread_create takes a
 * small block of the allocator for each other thread, as in every program: threads are started with their process,
 * so that these blocks lie at the beginning of the heap.
 */
#ifndef HL_NATIVE_SPACE_H
#define HL_NATIVE_SPACE_H

/* Carries out all events, or goes on after an exec, and ends the player. */
_Noreturn void play_space(void);

/* Carries out one batch of events after the other, and ends the player after the last. */
_Noreturn void play_duel(void);

#endif
