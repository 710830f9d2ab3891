"""Throughput that is asked for, in headers and offers: which values the service takes, and which none at all.

The words for a wrong number are the service's, quoted in the tests of its portal's and editor's clients; those for
serverless accounts are in OrleansContrib/Orleans.CosmosDB issue 46 and Azure/azure-sdk-for-java issue 18776.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .errors import CosmosError, bad_request, unsupported
from .payloads import parse

DEFAULT_THROUGHPUT: Final = 400
_MOST: Final = 1_000_000
_LEAST_AUTOSCALE: Final = 1000
_MANUAL, _AUTOSCALE = "x-ms-offer-throughput", "x-ms-cosmos-offer-autopilot-settings"


def throughput_of(headers: Mapping[str, str], *, serverless: bool, resource: str) -> dict[str, Any]:
    """The content of the offer that a new database or container asks for; {} where it asks for none."""
    if serverless and (_MANUAL in headers or _AUTOSCALE in headers):
        raise bad_request(
            f"Setting offer throughput or autopilot on {resource} is not supported for serverless accounts."
        )
    if _MANUAL in headers and _AUTOSCALE in headers:
        raise bad_request("A request sets either the throughput or the autopilot settings, not both.")
    if _AUTOSCALE in headers:
        settings = parse(headers[_AUTOSCALE], f"The header {_AUTOSCALE}")
        return {"offerAutopilotSettings": _autoscale(settings), "offerThroughput": DEFAULT_THROUGHPUT}
    if _MANUAL in headers:
        text = headers[_MANUAL]
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
        return {"offerThroughput": _checked(number, DEFAULT_THROUGHPUT, 100)}
    return {}


def replaced_content(old: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """An offer's content after a PUT of the offer: the kind of throughput stays, its number changes."""
    content = body.get("content")
    if not isinstance(content, dict):
        raise bad_request("The offer's content is not valid.")
    new = {**old, **content, "isOfferReplacePending": False}
    if settings := new.get("offerAutopilotSettings"):
        new["offerAutopilotSettings"] = _autoscale(settings)
    else:
        new["offerThroughput"] = _checked(new.get("offerThroughput"), DEFAULT_THROUGHPUT, 100)
    if bool(settings) != bool(old.get("offerAutopilotSettings")):  # without the header that asks for it as well
        raise unsupported("migrating an offer")
    return new


def no_offers() -> CosmosError:
    return bad_request("Reading or replacing offers is not supported for serverless accounts.")


def _autoscale(settings: Any) -> dict[str, Any]:
    if not isinstance(settings, dict):
        raise bad_request("The autopilot settings are not valid.")
    most = settings.get("maxThroughput")
    if isinstance(most, int) and most < _LEAST_AUTOSCALE:  # in the words that Microsoft's `test_auto_scale` looks for
        raise bad_request(f"Requested throughput {most} is less than required minimum throughput {_LEAST_AUTOSCALE}.")
    _checked(most, _LEAST_AUTOSCALE, 1000)
    return settings


def _checked(requested: Any, least: int, step: int) -> int:
    number = requested if isinstance(requested, int) and not isinstance(requested, bool) else 0
    if not least <= number <= _MOST or number % step:
        raise bad_request(
            f"The offer should have valid throughput values between {least} and {_MOST} inclusive in "
            f"increments of {step}."
        )
    return number
