"""Guards of signed tokens: whose signature counts, for whom, and for how long."""

from typing import Final

from schema import settings as schema_settings
from schema.hub.oauth import issuer_metadata
from service.auth import claims, jwks, jwt_verifier
from tests.mutants.mutant import mutants_in_file
from tests.schema import test_settings as test_schema_settings
from tests.service.auth import test_claims, test_issuer_metadata, test_jwks, test_jwt_verifier

TOKEN_GUARDS: Final = (
    *mutants_in_file(
        jwt_verifier,
        test_jwt_verifier,
        algorithms_are_pinned=("self.alg not in ALGORITHMS", "False"),
        token_does_not_say_how_to_verify_it=(
            'sorted(self.model_fields_set - {"alg", "kid", "typ"})',
            "list[str]()",
        ),
        only_an_access_token_is_one=("self.typ.lower() not in _ACCESS_TOKEN_TYPES", "False"),
        token_has_an_end=("len(raw) > _MAX_TOKEN_CHARS or", ""),
        kid_has_an_end=("Field(default=None, max_length=_MAX_KID_CHARS)", "None"),
        signature_is_right=(
            "except jwt.PyJWTError:\n                continue",
            "except jwt.PyJWTError:\n                pass",
        ),
        time_is_looked_at=(
            '"verify_jti": False,',
            '"verify_jti": False, "verify_exp": False,',
        ),
        leeway_is_given=("leeway=self._leeway", "leeway=0"),
        leeway_ends=("leeway=self._leeway", "leeway=2 * self._leeway"),
        not_before_counts=("claims.nbf is not None", "False"),
        issued_at_counts=("claims.iat is not None", "False"),
    ),
    *mutants_in_file(
        jwt_verifier,
        test_claims,
        issuer_is_looked_at=("claims.require_issuer(self._issuer)", ""),
        audience_is_looked_at=(
            '"verify_jti": False,',
            '"verify_jti": False, "verify_aud": False,',
        ),
        audience_is_one_of_those_named=(
            "audience=self._audiences",
            'audience=[*self._audiences, f"{self._audiences[0]}/"]',
        ),
    ),
    *mutants_in_file(
        claims,
        test_claims,
        claims_are_not_guessed_at=("ConfigDict(strict=True)", "ConfigDict()"),
        token_has_to_end=("exp: _TimestampSeconds", "exp: _TimestampSeconds = 9e9"),
        token_has_a_subject=("sub: str = Field(", 'sub: str = Field("anybody", '),
        subject_has_an_end=(", max_length=255", ""),
        subject_can_be_printed=(r'pattern=r"^[^\p{C}]+$", ', "min_length=1, "),
        scope_comes_before_scp=("self.scp if self.scope is None", "self.scp if self.scp"),
    ),
    *mutants_in_file(
        jwks,
        test_jwt_verifier,
        key_fits_the_algorithm=(
            "algorithm in self.algorithms",
            "algorithm[:2] in {one[:2] for one in self.algorithms}",
        ),
        kid_is_compared=("kid == self.kid", "self.kid is not None"),
        key_serves_its_one_algorithm=("family.algorithms & {jwk.alg}", "family.algorithms"),
    ),
    *mutants_in_file(
        jwks,
        test_jwks,
        key_is_for_signatures=('self.use in (None, "sig") and', ""),
        key_may_verify=('and (self.key_ops is None or "verify" in self.key_ops)', ""),
        short_keys_are_none=("key.key_size >= _MIN_RSA_BITS", "key.key_size"),
        odd_key_does_not_spoil_the_others=(
            "except ValidationError:\n        return None",
            "except ValidationError:\n        raise",
        ),
    ),
    *mutants_in_file(
        jwks,
        test_jwks,
        nobody_makes_us_ask_without_end=(
            "self._tried_at < RETRY_AFTER",
            "self._tried_at < 0 * RETRY_AFTER",
        ),
        removed_key_is_forgotten=("self._age() < REFRESH_AFTER.total_seconds() and", ""),
        known_key_is_not_asked_for=(
            "if self._age() < REFRESH_AFTER",
            "if self._age() < 0 * REFRESH_AFTER",
        ),
        keys_are_not_kept_for_ever=(
            "if self._age() < USABLE_WITHOUT_ANSWER.total_seconds()\n",
            "if True\n",
        ),
        silence_is_not_a_no=("if not keys and not self._last_fetch_succeeded:", "if False:"),
        silence_takes_no_key=(
            "self._last_fetch_succeeded = False\n                    log",
            "self._keys = ()\n                    log",
        ),
        fetch_outlives_who_asked=("CancelScope(shield=True)", "CancelScope()"),
        one_asks_for_all=("async with self._refresh_lock:", "if True:"),
    ),
    *mutants_in_file(
        issuer_metadata,
        test_jwks,
        keys_have_an_end=("len(body) > _MAX_DOCUMENT_BYTES", "False"),
        redirect_of_keys_is_not_followed=("follow_redirects=False", "follow_redirects=True"),
        error_page_is_not_a_set_of_keys=("response.status_code != HTTPStatus.OK", "False"),
    ),
    *mutants_in_file(
        issuer_metadata,
        test_issuer_metadata,
        metadata_is_the_issuers_own=("issuer != self._issuer", "False"),
        keys_come_untampered=("not is_trusted_endpoint(metadata.jwks_uri, self._issuer)", "False"),
        moved_keys_are_found=(
            "# The key set may have moved.\n            self._discovered_jwks_url = None",
            "# The key set may have moved.",
        ),
        keys_are_looked_for_everywhere=("messages.append(str(error))", "raise"),
    ),
    *mutants_in_file(
        schema_settings,
        test_schema_settings,
        issuer_is_needed=('self.auth == "jwt" and self.jwt_issuer is None', "False"),
        issuer_comes_untampered=(
            "url is not None and not is_secure_url(url, plain_hosts=self.jwt_plain_hosts)",
            "False",
        ),
    ),
)
