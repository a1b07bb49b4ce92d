"""One list of requests and command lines, put to skiff and to Docker; Docker's answers are in `golden/`."""
