"""What a gateway has besides models: who may ask, what is counted, and who can change what is served."""

from dataclasses import dataclass, field

from heliostat.serving.access.admission import Access
from heliostat.serving.access.audit import AuditLog
from heliostat.serving.access.config import AccessConfig, AuditConfig
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.access.keyring import PlainKeys
from heliostat.serving.access.policy import Policy
from heliostat.serving.access.rate_limits import RateLimits
from heliostat.serving.gateway.kept_answers import KeptAnswers
from heliostat.serving.gateway.metrics import GatewayMetrics
from heliostat.serving.gateway.steering import Steering
from heliostat.serving.guard.review_queue import ReviewQueue
from heliostat.serving.retrieval.store import Collections
from heliostat.storage import Storage


@dataclass(frozen=True)
class Doormen:
    """All that decides about who may ask, and remembers who did."""

    access: Access
    limits: RateLimits
    policy: Policy
    audit: AuditLog

    @classmethod
    def of(
        cls,
        config: AccessConfig,
        loopback_only: bool,
        storage: Storage | None,
        plain: PlainKeys | None = None,
    ) -> "Doormen":
        """As a config says; keys, rules and the audit log lie in the workspace at `storage`.

        Raises:
            ServingError: a file of them cannot be used, or nobody could get in.
        """
        policy = Policy(config.policy, storage)
        keys = KeyStore(storage, plain)
        return cls(
            access=Access(config, keys, loopback_only, (policy.refresh,)),
            limits=RateLimits(config.rate_limits),
            policy=policy,
            audit=AuditLog(config.audit, storage),
        )

    @classmethod
    def none(cls) -> "Doormen":
        """Everybody on this machine gets in, and nothing is written down."""
        return cls.of(AccessConfig(audit=AuditConfig(enabled=False)), loopback_only=True, storage=None)


@dataclass(frozen=True)
class Services:
    """Everything around the models."""

    doormen: Doormen = field(default_factory=Doormen.none)
    metrics: GatewayMetrics = field(default_factory=GatewayMetrics)
    steering: Steering | None = None
    answers: KeptAnswers | None = None
    collections: Collections | None = None
    reviews: ReviewQueue | None = None
