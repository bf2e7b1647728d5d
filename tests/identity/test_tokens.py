"""The files that name callers, and what is wrong with them in words."""

from pathlib import Path

import pytest
from pullcord.identity.authenticator import Chain, Credentials
from pullcord.identity.certificates import Certificates, RulesError, read_rules
from pullcord.identity.tokens import TokenFile, TokensError, digest_of, read_tokens
from pullcord.run.errors import Unauthenticated
from pullcord.run.principal import Grants, UnknownGrant, Verb, Width, principal
from pullcord.run.scope import Reach, Scope
from pullcord.service.policy import PolicyError, read_policy

D = digest_of("secret")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("secret acme ann user", "line 1 must be"),
        (f"{D} acme ann", "line 1 must be"),
        (f"\n{D} acme ann boss", "line 2: 'boss' is no grant"),
        (f"{D} ac/me ann user", "'ac/me' is no tenant"),
        (f"{D} acme {'x' * 257} user", "is no subject"),
        (f"{D} acme ann user\n{D} acme bob user", "line 2 has the same token"),
    ],
)
def test_a_wrong_line_of_tokens_is_named(text: str, words: str) -> None:
    with pytest.raises(TokensError, match=words):
        read_tokens(text)


async def test_a_token_is_known_by_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# ours\n{D}  acme ann user,runs:list:tenant\n")
    now = [0.0]
    file = TokenFile(path, lambda: now[0])
    found = await file.verify("secret")
    assert found is not None
    assert found.scope == Scope("acme", "ann")
    assert found.reach(Verb.LIST) == Reach("acme")
    assert await file.verify(D) is None, "the digest itself is no token"
    path.write_text(f"{digest_of('other')} acme bob user\n")
    assert await file.verify("secret") is not None, "looked at once a second"
    now[0] = 2.0
    assert await file.verify("secret") is None
    path.write_text("nonsense")
    now[0] = 4.0
    assert await file.verify("other") is not None, "the last tokens stand"


async def test_what_is_no_single_bearer_token_over_a_private_line_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"{D} acme ann user\n")
    chain = Chain([TokenFile(path)], Certificates())
    good, far = "Bearer secret", "ipv4:10.1.2.3:4"
    assert (await chain.authenticate(Credentials([good], peer="ipv4:127.0.0.1:9"))).subject == "ann"
    assert (
        await chain.authenticate(Credentials([good], encrypted=True, peer=far))
    ).subject == "ann"
    for wrong in (
        Credentials(),
        Credentials([good, good]),
        Credentials(["Basic secret"]),
        Credentials(["secret"]),
        Credentials(["Bearer "]),
        Credentials(["Bearer wrong"]),
        Credentials([good], peer=far),
        Credentials(["Bearer wrong"], ["spiffe://acme/ann"], encrypted=True),
    ):
        with pytest.raises(Unauthenticated):
            await chain.authenticate(wrong)
    by_certificate = await chain.authenticate(Credentials((), ["spiffe://acme/ann"], True))
    assert by_certificate.subject == "spiffe://acme/ann"
    both = Credentials([good], ["spiffe://acme/gateway"], True)
    assert (await chain.authenticate(both)).subject == "ann", "a gateway's certificate is its own"


def test_rules_say_who_is_behind_a_certificate(tmp_path: Path) -> None:
    path = tmp_path / "rules"
    path.write_text("spiffe://acme/ops/* acme - operator\nworker.acme acme worker user,act_as\n")
    certificates = Certificates(path)
    found = certificates.identify(["spiffe://acme/ops/ann", "worker.acme"])
    assert (found.subject, found.reach(Verb.CANCEL)) == ("spiffe://acme/ops/ann", Reach("acme"))
    assert certificates.identify(["worker.acme"]).grants.act_as
    with pytest.raises(Unauthenticated):
        certificates.identify(["spiffe://umbrella/eve"])
    with pytest.raises(RulesError, match="line 1 must be"):
        read_rules("spiffe://acme/*")


def test_grants_are_the_widest_of_their_words() -> None:
    grants = Grants.of(["user", "runs:list:tenant", "runs:start:agents/*"])
    assert grants.width(Verb.LIST) is Width.TENANT
    assert grants.starts("teams/any"), "user may start everything"
    only = Grants.of(["runs:start:agents/p*", "runs:watch"])
    assert (only.starts("agents/poet"), only.starts("teams/poet")) == (True, False)
    assert only.width(Verb.CANCEL) is Width.NONE
    for word in ("runs", "runs:fly", "runs:list:everybody", "Admin", ""):
        with pytest.raises(UnknownGrant):
            Grants.of([word])


def test_a_policy_says_who_may_start_what() -> None:
    policy = read_policy("agents/payroll acme/ann */root\nagents/* acme/*\n")
    ann, bob = principal("acme", "ann"), principal("acme", "bob")
    eve = principal("umbrella", "eve")
    assert [policy(who, "agents/payroll") for who in (ann, bob, eve)] == [True, False, False]
    assert [policy(who, "agents/poet") for who in (ann, bob, eve)] == [True, True, False]
    assert policy(eve, "teams/any"), "no line is about it"
    with pytest.raises(PolicyError, match="line 1"):
        read_policy("agents/payroll")
