/* player NUMBER PLAYER TRACE PLACES OVER: the number of a process, and descriptors that Python has left open; see
 * player.h. */
#include "ground.h"
#include "space.h"
#include "timed.h"

int main(void)
{
    if (player->pass < HL_PLAY_SPACE)
        play_timed();
    if (player->pass == HL_PLAY_DUEL)
        play_duel();
    play_space();
}
