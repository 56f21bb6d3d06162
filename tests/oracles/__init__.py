"""Reference implementations in float64, written from the publications that they name.

Expected values come from here, so nothing here imports the product or the helpers of its tests
(tests/unit/test_tools_imports.py). Tests convert with support/described.py.
"""
