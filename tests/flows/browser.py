"""Prefect's forms as a browser has them."""

from playwright.sync_api import Locator, Page


def field(within: Page | Locator, name: str) -> Locator:
    """The innermost part of the form that has this title."""
    title = f"//span[contains(@class, 'schema-form-property__label')][normalize-space()='{name}']"
    part = "ancestor::div[contains(concat(' ', @class, ' '), ' schema-form-property ')][1]"
    return within.locator(f"xpath=.{title}/{part}").first


def choose(select: Locator, option: str) -> None:
    """Open a field that has choices, and take one."""
    select.locator(".p-select-button__control").press("ArrowDown")  # opens in a dialog too
    select.page.locator(".p-select-option", has_text=option).click()
