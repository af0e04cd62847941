"""The AWS emulator for development and tests: ministack, with the AWS behaviour that this project needs and it lacks.

Each module patches one service, in process, through ministack's private names. Those names hold for one version only,
so `__main__` refuses to start with any other. What a patch stands for, and where AWS documents it, is said in the
docstring of the function that does it.
"""

MINISTACK_VERSION = "1.5.33"
"""The one version whose private names the patches know; the same as in requirements.txt."""
