"""HTTPS by the gateway itself: certificates read and checked before it listens, so that faults have a name.

OpenSSL alone calls most of them "PEM lib".
"""

import logging
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat.errors import ServingError
from heliostat.serving.access.config import TLSConfig

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

WARN_DAYS = 14
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
logger = logging.getLogger(__name__)


def server_context(config: TLSConfig, now: datetime | None = None) -> ssl.SSLContext:
    """What a server needs to speak TLS as the config says.

    Raises:
        ServingError: one line that names the file: missing, unreadable, no PEM, an encrypted key, a key that
            is not the certificate's, a certificate that has ended or not begun.
    """
    moment = now or datetime.now(UTC)
    _check_certificates(config.certificate, "tls.certificate", moment)
    _read(config.key, "tls.key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[config.minimum_version]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(config.certificate, config.key, password=_refuse_password)
    except ssl.SSLError as error:
        raise ServingError(_explain(error, config)) from None
    if config.client_ca is not None:
        _check_certificates(config.client_ca, "tls.client_ca", moment)
        try:
            context.load_verify_locations(cafile=config.client_ca)
        except ssl.SSLError as error:
            raise ServingError(
                f"tls.client_ca {config.client_ca}: {error.reason}; give CA certificates"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def uvicorn_options(config: TLSConfig | None) -> dict[str, Any]:
    """Keyword arguments of `uvicorn.Config`; none without a config.

    Raises:
        ServingError: as `server_context`.
    """
    if config is None:
        return {}
    context = server_context(config)
    return {"ssl_context_factory": lambda *_: context}


def _refuse_password() -> str:
    """Without this OpenSSL asks for one on the terminal and waits."""
    return ""


def _explain(error: ssl.SSLError, config: TLSConfig) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return (
            f"tls.key {config.key} does not belong to tls.certificate {config.certificate}; "
            "the server's own certificate must be the file's first"
        )
    if b"ENCRYPTED" in Path(config.key).read_bytes():
        return f"tls.key {config.key}: is encrypted; decrypt it with 'openssl pkey -in KEY -out NEW'"
    return (
        f"tls.key {config.key}: is no private key in PEM ({error.reason or error}); give an unencrypted one"
    )


def _read(path: str, name: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ServingError(f"{name} {path}: cannot be read: {error.strerror}; give a PEM file") from None


def _check_certificates(path: str, name: str, now: datetime) -> None:
    from cryptography.x509 import load_pem_x509_certificates

    content = _read(path, name)
    try:
        certificates = load_pem_x509_certificates(content)
    except ValueError:
        raise ServingError(f"{name} {path}: holds no certificate in PEM; give one") from None
    for certificate in certificates:
        _check_dates(certificate, f"{name} {path}", now)


def _check_dates(certificate: "Certificate", place: str, now: datetime) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    subject = certificate.subject.rfc4514_string() or f"number {certificate.serial_number}"
    if ends <= now:
        raise ServingError(f"{place}: {subject} has expired on {ends:%Y-%m-%d %H:%M} UTC; renew it")
    if begins > now:
        raise ServingError(
            f"{place}: {subject} is valid only from {begins:%Y-%m-%d %H:%M} UTC on; wait or mend the clock"
        )
    if ends - now < timedelta(days=WARN_DAYS):
        logger.warning("%s: %s expires on %s UTC; renew it soon", place, subject, f"{ends:%Y-%m-%d %H:%M}")
