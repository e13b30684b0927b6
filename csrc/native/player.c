/* player NUMBER: see player.h.  The files are descriptors that Python has left open. */
#include "ground.h"
#include "space.h"
#include "timed.h"

int main(void)
{
    if (player->pass < HL_PLAY_SPACE)
        play_timed();
    play_space();
}
