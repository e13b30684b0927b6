"""A program that takes keys one after the other, however fast they come."""

from collections import deque

from textual import events
from textual.app import App
from textual.message import Message


class _Through(Message):
    """Sent behind a key by the way that the key takes: when it is back, the key is through.

    rounds: how often it is sent again: behind the message that the key made, as that of Enter in a prompt,
    and behind the move of the focus that this message made.
    """

    def __init__(self, rounds: int = 2) -> None:
        super().__init__()
        self.rounds = rounds


class InTurn(App[None]):
    """Takes a key when the key before has done what it does.

    Textual sends a key to what has the focus at once; a key that moves the focus does so later.  Without
    this class the letters that are typed fast behind the key of a prompt would be commands.
    A screen above the program's has its keys at once: what it was sent may vanish with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._typed: deque[events.Event] = deque()  # the first one is on its way

    async def on_event(self, event: events.Event) -> None:
        """Take a key or a pasted text in its turn, any other event at once."""
        typed = isinstance(event, events.Key | events.Paste) and not event.is_forwarded
        if typed and (self._typed or len(self.screen_stack) == 1):
            self._typed.append(event)
            if len(self._typed) == 1:
                await self._take()
        else:
            await super().on_event(event)

    async def _take(self) -> None:
        """Take the first key, and all behind it that nothing has to be waited for."""
        while self._typed:
            target = self.focused or self.screen
            await super().on_event(self._typed[0])
            if len(self.screen_stack) == 1 and target.post_message(_Through()):
                return
            self._typed.popleft()

    async def on__through(self, message: _Through) -> None:
        """Send it again, or take the next key."""
        message.stop()
        if message.rounds and (self.focused or self.screen).post_message(_Through(message.rounds - 1)):
            return
        self._typed.popleft()
        await self._take()
