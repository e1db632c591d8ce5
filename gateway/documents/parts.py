"""The dependencies of the handlers of documents."""

from dataclasses import dataclass

from gateway.documents.changes import DocumentChanges
from gateway.documents.intake import DocumentIntake
from gateway.documents.pace import DocumentPace
from gateway.documents.polling import Polling
from gateway.documents.search.search import Searches
from gateway.documents.settings import DocumentSettings
from gateway.documents.store import DocumentStore
from gateway.http.budget import BodyBudget
from gateway.http.feature import Shared
from gateway.kafka.backlog import Backlog
from gateway.kafka.followers import GroupFollower
from gateway.limits.throttle import Throttle
from gateway.objects.uploads import Uploads
from schemas.documents.topics import INTAKE


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentParts:
    """The dependencies of the handlers of documents."""

    shared: Shared
    store: DocumentStore
    intake: DocumentIntake
    changes: DocumentChanges
    searches: Searches
    polling: Polling
    files: BodyBudget  # of uploads that are whole, until their records are in the log


def document_parts(
    shared: Shared,
    *,
    store: DocumentStore,
    throttle: Throttle,
    uploads: Uploads,
    searches: Searches,
    pace: DocumentPace,
    settings: DocumentSettings,
) -> DocumentParts:
    """Return the dependencies of the handlers, made of what the gateway has."""

    def follower() -> GroupFollower:
        return shared.followers[INTAKE.name]

    return DocumentParts(
        shared=shared,
        store=store,
        intake=DocumentIntake(
            publisher=shared.publisher,
            throttle=throttle,
            uploads=uploads,
            store=store,
            backlog=Backlog(store.unfinished, follower, nouns="documents", unfinished_max=settings.unfinished_max),
            pace=pace,
        ),
        changes=DocumentChanges(publisher=shared.publisher, store=store, log=shared.log, follower=follower),
        searches=searches,
        polling=Polling(),
        files=BodyBudget(),
    )
