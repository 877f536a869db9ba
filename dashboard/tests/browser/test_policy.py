"""The content security policy in a browser: every page obeys it, and it blocks attacks.

Every page is opened with hostile text in every field. The shared fixture fails on everything that
the policy blocks, on every error, and on every expression that Alpine's CSP build cannot parse.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from channels.models import User
from dashboard.tests.browser import every_page
from dashboard.tests.browser.visitors import NewVisitor, Watched
from dashboard.tests.test_strangers import Tenant
from gateway.tests.test_hostile_text import MARK, make_hostile_tenant
from tests.support.fake_provider import FakeProvider

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# Parsed, never run: after `false &&` an expression is only parsed. The value of x-for is not an
# expression.
UNREADABLE = r"""() => {
  const found = [];
  const look = (root) => {
    for (const element of root.querySelectorAll("*")) {
      if (element instanceof HTMLTemplateElement) look(element.content);
      for (const { name, value } of element.attributes) {
        const isRead = /^(x-(data|init|show|bind|on|text|if|model|anchor|resize)\b|@|:)/.test(name);
        if (!isRead || !value) continue;
        try { Alpine.evaluate(document.body, `false && (${value.trim().replace(/;$/, "")})`); }
        catch (error) { found.push(`${name}="${value}": ${error.message}`); }
      }
    }
  };
  look(document);
  return found;
}"""


@pytest.fixture
def tenant(provider: FakeProvider, transactional_db: None) -> Tenant:
    return make_hostile_tenant(provider)


def enter(visitor: NewVisitor, user: User, **more: Any) -> Watched:
    """Open a browser in which somebody has just logged in, and watch for hostile text that runs."""
    watched = every_page.enter(visitor(**more), user)
    watched.page.add_init_script(f"window.{MARK} = () => console.error('the hostile text runs')")
    return watched


def boss() -> User:
    return User.objects.create_superuser("boss@example.com")


def open_all(watched: Watched, paths: list[str]) -> None:
    found = []
    for path in paths:
        page = watched.open(path)
        if page.evaluate("typeof Alpine !== 'undefined'"):
            found += [f"{path}: {one}" for one in page.evaluate(UNREADABLE)]
        found += [f"{path}: {error}" for error in watched.errors]
        watched.errors.clear()
    assert found == []


LOOKS = [(1440, "light"), (390, "dark")]


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_every_page_of_the_staff_obeys_it(
    tenant: Tenant, visitor: NewVisitor, width: int, look: str
) -> None:
    paths = every_page.own_pages_of_staff(tenant) + every_page.rows_of_staff(tenant)
    open_all(enter(visitor, boss(), width=width, look=look), paths)


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_every_page_of_an_owner_obeys_it(
    tenant: Tenant, visitor: NewVisitor, width: int, look: str
) -> None:
    owner = tenant.people["owner"]
    shown = every_page.pages_of_owner(tenant)
    open_all(enter(visitor, owner, width=width, look=look), shown)
    # The owner's passkey is made up. A person without one can add one.
    setting_up = ["/accounts/2fa/webauthn/add/", "/accounts/2fa/totp/activate/"]
    open_all(enter(visitor, tenant.people["editor"], width=width, look=look), setting_up)


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_every_public_page_obeys_it(
    transactional_db: None, visitor: NewVisitor, width: int, look: str
) -> None:
    pages = (
        "login",
        "signup",
        "password/reset",
        "password/reset/done",
        "confirm-email",
        "inactive",
    )
    open_all(visitor(width=width, look=look), [f"/accounts/{page}/" for page in pages] + ["/docs/"])


@pytest.mark.parametrize(
    "attack",
    [
        "fetch('/hit')",
        "$el.ownerDocument.defaultView.fetch('/hit')",
        "$el.constructor.constructor('fetch(`/hit`)')()",
        "frame.constructor('fetch(`/hit`)')()",
        "sortRecords.constructor('fetch(`/hit`)')()",
        "(() => fetch('/hit'))()",
        "$el.innerHTML = '<img src=/hit>'",
        "$el.insertAdjacentHTML('beforeend', '<img src=/hit>')",
        "$dispatch.constructor.call(null, 'fetch(`/hit`)')()",
    ],
)
def test_markup_that_got_into_a_page_runs_no_script(
    tenant: Tenant, visitor: NewVisitor, attack: str
) -> None:
    """If a text does end up as markup, the policy and Alpine's build still stop it."""
    watched = enter(visitor, boss())
    page = watched.open("/admin/")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    # What htmx fetches holds no markup, which would inherit the attack and go on after the test.
    page.evaluate(
        """(attack) => {
          const all = document.createElement("div");
          all.innerHTML = `<b x-data x-init="${attack}"></b><b onclick="${attack}" id="old"></b>
            <b hx-get="/healthz" hx-trigger="click[${attack}]" id="hx"></b>
            <b hx-get="/healthz" hx-trigger="load" hx-vals="js:{a: ${attack}}"></b>
            <form hx-post="/admin/hit" hx-trigger="load"></form>`;
          document.body.append(all);
          htmx.process(all);
          document.getElementById("old").click();
          document.getElementById("hx").click();
        }""",
        attack,
    )
    # Requested last, so that everything the attack requests has been seen by then.
    page.evaluate(
        "() => new Promise((done) => Alpine.nextTick(() => fetch('/favicon.ico').then(done)))"
    )
    assert any("favicon" in url for url in asked)
    assert [url for url in asked if "hit" in url] == []
    watched.expect_error("")


# --- What people do with the frame --------------------------------------------------------------


def test_theme_sidebar_and_phone_menu(tenant: Tenant, visitor: NewVisitor) -> None:
    page = enter(visitor, tenant.people["owner"]).open("/")
    html = page.locator("html")
    for name, css in (("Dark", "dark"), ("Light", "light")):
        page.get_by_label("Theme").click()
        page.get_by_role("button", name=name, exact=True).click()
        expect(html).to_have_class(css)
        page.reload()
        expect(html).to_have_class(css)
    sidebar = page.locator("#nav-sidebar")
    page.get_by_role("button", name="Show or hide the menu").click()
    expect(sidebar).to_be_hidden()
    page.reload()
    expect(sidebar).to_be_hidden()
    page.get_by_role("button", name="Show or hide the menu").click()
    expect(sidebar).to_be_visible()
    page.set_viewport_size({"width": 390, "height": 800})
    expect(sidebar).to_be_hidden()
    page.get_by_role("button", name="Open the menu").click()
    expect(sidebar).to_be_visible()
    page.get_by_role("button", name="Close the menu").click()
    expect(sidebar).to_be_hidden()


def test_a_list_of_staff_has_a_key_for_its_search(tenant: Tenant, visitor: NewVisitor) -> None:
    page = enter(visitor, boss()).open("/admin/channels/provider/")
    page.locator("h1").first.click()
    page.keyboard.press("/")
    expect(page.locator("#searchbar")).to_be_focused()


def test_lists_have_filters_and_actions(tenant: Tenant, visitor: NewVisitor) -> None:
    page = enter(visitor, boss()).open("/admin/channels/apikey/")
    page.locator("#changelist a", has_text="Filters").click()
    expect(page.locator("#changelist-filter")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#changelist-filter")).to_be_hidden()
    page.locator("input.action-select").first.check()
    bar = page.locator("#changelist-actions")
    expect(bar).to_be_visible()
    width = page.locator("#changelist-form").evaluate("form => form.clientWidth")
    assert abs(bar.evaluate("bar => bar.clientWidth") - width) < 20
    bar.locator("select[name=action]").select_option(label="Revoke the selected keys")
    bar.get_by_role("button", name="Run").click()
    expect(page.get_by_text("Revoked. The next request")).to_be_visible()


def test_forms_have_tabs_rows_and_lookups(tenant: Tenant, visitor: NewVisitor) -> None:
    User.objects.create_user("newcomer@example.com")
    path = f"/admin/channels/account/{tenant.account.pk}/change/"
    page = enter(visitor, boss()).open(path)
    group, rows = page.locator("#memberships-group"), page.locator("#memberships-group .form-group")
    expect(group).to_be_hidden()
    page.locator("#tabs-items").get_by_text("Memberships").click()
    expect(group).to_be_visible()
    expect(page.locator("#account_form")).to_have_attribute("action", f"{path}#memberships")
    before = rows.count()
    group.locator(".add-row a, .add-row button, .add-row").first.click()
    expect(rows).to_have_count(before + 1)
    group.locator(".select2-selection:visible").last.click()
    page.locator(".select2-search__field").last.press_sequentially("newcomer")
    page.locator(".select2-results__option", has_text="newcomer@example.com").click()
    expect(group).to_contain_text("newcomer@example.com")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    assert tenant.account.memberships.filter(user__email="newcomer@example.com").exists()


def test_a_page_of_staff_saves_and_says_so(tenant: Tenant, visitor: NewVisitor) -> None:
    page = enter(visitor, boss()).open("/admin/channels/plan/add/")
    page.get_by_label("Name").fill("Small")
    page.get_by_label("Credits per month").fill("0")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was added successfully")).to_be_visible()


def test_pages_of_the_console_open_dialogs(tenant: Tenant, visitor: NewVisitor) -> None:
    page = enter(visitor, tenant.people["owner"]).open(
        reverse("console:keys", args=[tenant.site.channel.id])
    )
    # Each key has a menu.
    page.locator(".gw-key-menu summary").filter(visible=True).first.click()
    page.locator("[data-dialog]").filter(visible=True).first.click()
    expect(page.get_by_role("dialog").first).to_be_visible()
