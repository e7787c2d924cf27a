"""What tests ask of every page of `report`."""

from tests.support.chromium import Page


def is_quiet(page: Page) -> bool:
    """Whether nothing stands in the console and nothing was asked for."""
    assert (page.said, page.requested) == ([], [])
    return True


def facts(page: Page) -> dict[str, str]:
    """What the page says of the line that is chosen."""
    names, values = page.texts("#detail dt"), page.texts("#detail dd")
    return dict(zip(names, values, strict=True))
