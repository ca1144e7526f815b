"""Errors of tests and reviews.

ReviewError
├── BundleError            a review bundle that is incomplete, or whose files changed
├── NotPermittedError      this person may not review this product
└── PrereleaseError        an item of the pre-release report is empty or not met
"""

from typing import ClassVar

from factory.errors import FactoryError


class ReviewError(FactoryError):
    """Root of the errors of ``factory.review``."""

    code: ClassVar[str] = "review.error"


class BundleError(ReviewError):
    """The bundle is incomplete, or a file is not what it names."""

    code = "review.bundle"


class NotPermittedError(ReviewError):
    """Separation of duties does not let this person sign, or a point lacks its evidence."""

    code = "review.not_permitted"


class PrereleaseError(ReviewError):
    """An item of the pre-release report has no measurement, or one that is not met."""

    code = "review.prerelease"
