"""What a Dockerfile may not do: at all, or unless whoever builds it allows it (--allow). Pure."""

from collections.abc import Set

from skiff.engine.builds.plan import ExecOp, MetaOp, Op, Plan, SourceOp
from skiff.errors import InvalidParameter, NotImplementedHere

NETWORK_HOST = "network.host"
INSECURE = "security.insecure"


def check(plan: Plan, allowed: Set[str], network: str) -> None:
    """network: of all RUNs, as the person wished: `host` allows it. InvalidParameter: Docker's words."""
    for name in allowed:
        if name not in (NETWORK_HOST, INSECURE):
            raise InvalidParameter(f"invalid entitlement: {name}")
    for op in plan.ops:
        if not isinstance(op, (SourceOp, MetaOp)) and _is_host(plan.ops[op.input]):
            raise NotImplementedHere(
                "no layer can stand on the image host, this machine: take files with COPY --from=host"
            )
        if isinstance(op, ExecOp):
            if op.security == "insecure" and INSECURE not in allowed:
                raise InvalidParameter(f"{INSECURE} is not allowed")
            if op.network == "host" and network != "host" and NETWORK_HOST not in allowed:
                raise InvalidParameter(f"{NETWORK_HOST} is not allowed")


def _is_host(op: Op) -> bool:
    return isinstance(op, SourceOp) and op.kind == "image" and op.name == "host"
