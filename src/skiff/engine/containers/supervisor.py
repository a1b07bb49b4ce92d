"""What follows an exit: state, events, restart or removal; and reconciliation at boot."""


class Supervisor:
    async def run(self) -> None:
        """Follow the runtime's exits until cancelled."""
        raise NotImplementedError

    async def reconcile(self) -> None:
        """At boot, before serving: adopt what runs, handle what ended meanwhile, undo what was half made."""
        raise NotImplementedError
