"""The settings of documents."""

from dataclasses import dataclass

from schemas.process.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentSettings:
    """The settings of documents."""

    unfinished_max: int = setting(
        "TIDEGATE_DOCUMENTS_UNFINISHED_MAX",
        20_000,
        help="Unfinished documents that a tenant may have; more are refused with 429; 0: no limit",
        minimum=0,
    )
    searches_max: int = setting(
        "TIDEGATE_SEARCHES_MAX",
        32,
        help="Searches that run or wait at once; more are refused with 429",
        minimum=1,
    )
