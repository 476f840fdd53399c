"""Everything about the package is in setup.cfg."""

import setuptools

setuptools.setup()
