"""Documents of one template that say different things: what careless dedup deletes, and must not.

Three kinds of some 160 words, of which every eighth to twelfth is the document's own. In word 5-grams two of
a kind share about half (the corpus measures the largest similarity and keeps it); once all digits are made
equal, as some dedup does, two reports are nearly the same.
"""

import random
from collections.abc import Callable

_API_ENTRY = """\
{0}.get

Returns one {0} that belongs to the given {1}, with all of the fields that the caller is allowed to see.

The request must be authorised with a bearer token whose scope includes read access to {1}. If the token has \
expired the service answers with status code 401 and the client should ask for a new one before it tries \
again; the event {4} is then sent once.

The optional parameter {2} limits the answer to those entries that were changed since the given moment, in \
seconds since the epoch. When it is left out everything is returned, one page at a time. The optional \
parameter {3} chooses the order in which entries are listed; the default is the order in which they were \
created.

Errors: not found, if there is no {0} with this identifier or the caller may not know that it exists; \
conflict, if it is being changed by {5} at this moment; too many requests, if the quota of the {1} is used \
up for the current minute. Since version {6}."""

_INVOICE = """\
Invoice number {0} issued to customer {1} of the branch in {2}

We thank you for your order and charge the following items according to the terms that were agreed upon when \
the account was opened.

{3} units of the monthly service plan including support by telephone and electronic mail at the usual rate, \
in total {4} before tax.
{5} hours of installation and maintenance carried out by our technicians at your premises, in total {6} \
before tax.

The sum of {7} is due within thirty days of the date of this letter without any deduction. Please transfer \
it to the account given below and state the reference {8} so that we can match your payment. For late \
payment we charge interest at the statutory rate. Goods that were delivered remain our property until they \
are paid in full. Questions about this letter are answered by the office in {9} on every working day between \
nine in the morning and five in the afternoon."""

_WEATHER_REPORT = """\
Weather station {0} {1} automatic report

The air temperature two metres above the ground was {2} degrees at the time of observation, and the relative \
humidity measured by the second sensor of the mast was {3} per cent of saturation.

The wind blew with a mean speed of {4} kilometres per hour over the last ten minutes, while the strongest \
gust since the previous report reached {5} kilometres per hour at the top of the mast.

The pressure reduced to the level of the sea stood at {6} hectopascals and has changed by {7} tenths of a \
unit in the course of the last three hours. The gauge collected {8} millimetres of rain since the morning, \
and the visibility along the runway was estimated at {9} metres by the optical instrument. All instruments \
passed their last inspection {10} days ago and no reading of this report has been corrected by hand."""

_ROOT_WORDS = """\
account archive badge basket bridge bucket cache camera cargo channel cluster contract cursor device
digest domain engine escrow export filter fleet folder gateway grant handle hook index kernel layer
ledger lease locale marker meter module mount notice outlet packet parcel permit pixel policy portal
probe quota receipt record region replica route sample schema sensor session shelf signal socket spool
stage tenant ticket tunnel vault vector voucher widget window worker"""
_PLACE_WORDS = """\
Aldern Brack Calder Dunmore Elvas Farrow Glen Harwick Inver Jarrow Kelso Lorne Marsh Norden Oakham
Penrith Quarry Rosse Selby Thorn Ulver Varley Wick Yarrow"""
_ENDING_WORDS = "bridge field ford ham haven moor port ridge stead ton wood worth"

_ROOTS, _PLACES, _ENDINGS = _ROOT_WORDS.split(), _PLACE_WORDS.split(), _ENDING_WORDS.split()


def _own_name(chance: random.Random) -> str:
    return "".join(chance.choice(_ROOTS).capitalize() for _ in range(4))


def _place(chance: random.Random) -> str:
    return chance.choice(_PLACES) + chance.choice(_ENDINGS)


def _decimal(chance: random.Random, least: int, most: int, places: int) -> str:
    return f"{chance.uniform(least, most):.{places}f}"


def _api_entry(chance: random.Random) -> str:
    return _API_ENTRY.format(*(_own_name(chance) for _ in range(6)), _decimal(chance, 1, 40, 2))


def _invoice(chance: random.Random) -> str:
    return _INVOICE.format(
        chance.randint(10_000, 9_999_999),
        chance.randint(1_000, 999_999),
        _place(chance),
        chance.randint(2, 900),
        _decimal(chance, 3, 9_999, 2),
        chance.randint(2, 900),
        _decimal(chance, 3, 9_999, 2),
        _decimal(chance, 6, 19_999, 2),
        chance.randint(10**6, 10**8),
        _place(chance),
    )


def _weather_report(chance: random.Random) -> str:
    return _WEATHER_REPORT.format(
        _place(chance),
        chance.randint(100, 9_999),
        _decimal(chance, -25, 39, 1),
        _decimal(chance, 12, 100, 1),
        chance.randint(0, 130),
        chance.randint(20, 190),
        _decimal(chance, 960, 1_050, 1),
        chance.randint(0, 120),
        _decimal(chance, 0, 80, 1),
        chance.randint(1, 600) * 50,
        chance.randint(1, 360),
    )


KINDS: dict[str, Callable[[random.Random], str]] = {
    "api_entry": _api_entry,
    "invoice": _invoice,
    "weather_report": _weather_report,
}
"""Makes a document of a kind, all values of its own drawn anew."""
