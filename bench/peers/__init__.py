"""The contenders, each in its own file, all behind the one interface of base.py."""
