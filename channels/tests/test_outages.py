"""E-mails about outages: to staff who chose them, once when it lasts and once when it is over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core import mail
from django.utils import timezone

from channels import breaker, outages, person_mails
from channels.breaker import Claim
from channels.errors import Fault, ProviderError
from channels.models import Outage, PersonMail, Provider, Route, RouteHealth, User
from channels.tasks import send_person_mails, tell_of_outages
from tests.support.clients import log_in
from tests.support.threads import run_in_threads

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("forget_attempts")]

PAGE = "/accounts/mails/"
LONG = outages.TOLD_AFTER + timedelta(seconds=1)


def make_staff(email: str = "staff@example.com", **fields: Any) -> User:
    user = User.objects.create_user(email, **{"is_staff": True, "mails_outages": True} | fields)
    user.user_permissions.set(Permission.objects.filter(codename="view_routehealth"))
    return user


def a_route() -> Route:
    Provider.objects.update(is_enabled=True)
    return Route.objects.select_related("provider").order_by("id")[0]


def names_of(route: Route) -> tuple[str, str]:
    return route.provider.name, route.provider_model


def break_down(route: Route) -> None:
    error = ProviderError("unreachable", fault=Fault.UNREACHABLE)
    breaker.note_failure(*names_of(route), error, now=timezone.now())


def recover(route: Route) -> None:
    opened_at = RouteHealth.objects.get().opened_at
    breaker.note_probe_success(*names_of(route), Claim(True, timezone.now(), opened_at))


def run() -> list[Any]:
    mail.outbox.clear()
    tell_of_outages()
    send_person_mails()
    return list(mail.outbox)


def test_it_is_told_once_when_it_lasts_and_once_when_it_is_over(clock: Any) -> None:
    make_staff()
    route = a_route()
    break_down(route)
    clock.shift(outages.TOLD_AFTER - timedelta(seconds=30))
    assert run() == [], "too short"
    clock.shift(31)
    (one,) = run()
    assert one.to == ["staff@example.com"]
    assert one.subject.startswith("A provider is down")
    assert f"{route.provider_model} at {route.provider.name}" in one.body
    assert "unreachable" in one.body
    clock.shift(LONG)
    break_down(route)
    assert run() == [], "the same outage"
    recover(route)
    (one,) = run()
    assert one.subject.startswith("A provider is back")
    assert "after about 10 minutes" in one.body
    assert run() == []
    break_down(route)
    clock.shift(LONG)
    (one,) = run()
    assert one.subject.startswith("A provider is down"), "a new outage is news again"


def test_a_route_that_recovers_in_time_is_no_news(clock: Any) -> None:
    make_staff()
    route = a_route()
    break_down(route)
    clock.shift(60)
    recover(route)
    clock.shift(LONG)
    assert run() == []


def test_failures_that_do_not_open_a_route_are_no_news(clock: Any) -> None:
    make_staff()
    breaker.note_failure(*names_of(a_route()), ProviderError("timeout"), now=timezone.now())
    clock.shift(LONG)
    assert run() == []


def test_only_staff_who_may_see_it_and_chose_it_are_told(clock: Any) -> None:
    make_staff("chose@example.com")
    make_staff("did-not@example.com", mails_outages=False)
    make_staff("no-staff@example.com", is_staff=False)
    make_staff("gone@example.com", is_active=False)
    make_staff("may-not@example.com").user_permissions.clear()
    User.objects.create_superuser("boss@example.com", mails_outages=True)
    break_down(a_route())
    clock.shift(LONG)
    assert sorted(one.to[0] for one in run()) == ["boss@example.com", "chose@example.com"]


def test_a_route_that_staff_switch_off_is_not_told_as_back(clock: Any) -> None:
    make_staff()
    route = a_route()
    break_down(route)
    clock.shift(LONG)
    assert len(run()) == 1
    Route.objects.filter(id=route.id).update(is_enabled=False)
    (one,) = run()
    assert "no longer used" in one.body
    assert run() == []
    assert not Outage.objects.exists()


def test_a_lost_mail_server_delays_the_mail(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make_staff()
    break_down(a_route())
    clock.shift(LONG)

    def refuse(*args: Any, **options: Any) -> int:
        raise ConnectionRefusedError("no")

    with monkeypatch.context() as down:
        down.setattr(person_mails, "send_mail", refuse)
        assert run() == []
    assert len(run()) == 1


def test_only_staff_who_may_see_outages_are_offered_the_choice() -> None:
    plain = User.objects.create_user("plain@example.com")
    assert "mails_outages" not in log_in(plain).get(PAGE).context["form"].fields
    log_in(plain).post(PAGE, {"mails_outages": "on"})
    plain.refresh_from_db()
    assert not plain.mails_outages
    staff = make_staff(mails_outages=False)
    log_in(staff).post(PAGE, {"mails_outages": "on"})
    staff.refresh_from_db()
    assert staff.mails_outages


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_tell_it_once(clock: Any) -> None:
    for number in range(3):
        make_staff(f"staff{number}@example.com")
    route = a_route()
    break_down(route)
    now = timezone.now() + LONG
    assert sum(run_in_threads(lambda _: outages.tell_of_outages(now=now), 4)) == 1
    assert PersonMail.objects.count() == 3
    assert sum(run_in_threads(lambda _: person_mails.send_due(now=now), 4)) == 3
    recover(route)
    assert sum(run_in_threads(lambda _: outages.tell_of_outages(now=now), 4)) == 1
    assert sum(run_in_threads(lambda _: person_mails.send_due(now=now), 4)) == 3
