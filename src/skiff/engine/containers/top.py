"""The processes in a container, as ps shows them."""

from skiff.docker.container_view import TopResponse


class Top:
    async def top(self, text: str, ps_args: str = "-ef") -> TopResponse:
        """Conflict if it does not run; InvalidParameter for ps arguments without a pid column."""
        raise NotImplementedError
