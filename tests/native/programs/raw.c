/* mmap and munmap for a heap within a program that the sanitizer of threads has built: its own are not ready when the heap
 * begins. */
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

void *our_mmap(void *address, size_t length, int protection, int flags, int file, long offset)
{
    return (void *)syscall(SYS_mmap, address, length, protection, flags, file, offset);
}

int our_munmap(void *address, size_t length) { return (int)syscall(SYS_munmap, address, length); }
