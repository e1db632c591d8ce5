"""The settings of documents."""

from dataclasses import dataclass

from schemas.pacing.presets import PresetName
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
    pace: PresetName = setting(
        "TIDEGATE_DOCUMENTS_PACE",
        PresetName.BALANCED,
        help="Seconds of work that may wait in a lane of documents: conservative (30), balanced (120) or aggressive "
        "(600); more is refused with 429",
    )
    searches_max: int = setting(
        "TIDEGATE_SEARCHES_MAX",
        32,
        help="Searches that run or wait at once; more are refused with 429",
        minimum=1,
    )
