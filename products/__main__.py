"""``python -m products verify PACKAGE``: the verifier on its own, for an auditor."""

from products.cli import main

if __name__ == "__main__":
    main()
