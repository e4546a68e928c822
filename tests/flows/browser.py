"""Prefect's forms as a browser has them."""

from playwright.sync_api import Locator, Page

from tests.waiting import wait_for


def field(within: Page | Locator, name: str) -> Locator:
    """The innermost part of the form that has this title."""
    title = f"//span[contains(@class, 'schema-form-property__label')][normalize-space()='{name}']"
    part = "ancestor::div[contains(concat(' ', @class, ' '), ' schema-form-property ')][1]"
    return within.locator(f"xpath=.{title}/{part}").first


def choose(select: Locator, option: str) -> None:
    """Open a field that has choices, and take one."""
    select.locator(".p-select-button__control").press("ArrowDown")  # opens in a dialog too
    select.page.locator(".p-select-option", has_text=option).click()


def submit(page: Page, endpoint: str) -> None:
    """Press Submit, again where the answer is 503: Prefect on SQLite wants to be asked once more."""

    def taken() -> bool:
        with page.expect_response(lambda answer: answer.url.endswith(endpoint)) as answer:
            page.get_by_role("button", name="Submit").click()
        return answer.value.status != 503

    wait_for(taken)
