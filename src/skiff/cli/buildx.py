"""What of buildx's flags chooses another builder or asks for more than an image: settled or refused.

There is one builder here, `default`, as with buildx's docker driver, and it makes no attestations.
"""

from __future__ import annotations

from skiff.errors import InvalidParameter, NotImplementedHere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

BUILDER = "default"


def settle(session: Session, asked: Parsed) -> None:
    """Turn `--call=check` into --check, say no to what is not done. InvalidParameter, NotImplementedHere."""
    known_builder(asked)
    values = asked.values
    if values["debug"]:
        session.top.values["debug"] = True
    if values["call"] == "check":
        values["check"] = True
    elif values["call"] != "build":
        raise NotImplementedHere(f"skiff build does not do --call={values['call']}: it does build and check")
    if values["annotation"]:
        raise NotImplementedHere("skiff build does not do --annotation: its images have no manifest yet")
    if len(values["platform"]) > 1 or "," in "".join(values["platform"]):
        raise NotImplementedHere("Multi-platform build is not supported: build each platform by itself")
    wanted = [*values["attest"]]
    wanted += [f"type={kind},{values[kind]}" for kind in ("provenance", "sbom") if values[kind]]
    if any(_is_wanted(text) for text in wanted):
        raise NotImplementedHere("Attestation is not supported: leave --attest, --provenance and --sbom out")


def known_builder(asked: Parsed) -> None:
    if asked["builder"] not in ("", BUILDER):
        raise InvalidParameter(f'no builder "{asked["builder"]}" found')


def _is_wanted(text: str) -> bool:
    """`type=sbom,…` unless it ends in `false` or says disabled=true."""
    from skiff.cli.flags import parse_bool, parse_csv

    wanted = True
    for field in parse_csv(text):
        name, equals, value = field.partition("=")
        try:
            if not equals and name != "type":
                wanted = parse_bool(name)
            elif name == "disabled":
                wanted = not parse_bool(value)
        except ValueError:
            raise InvalidParameter(f"invalid value {field}") from None
    return wanted
