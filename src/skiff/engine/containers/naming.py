"""Names for containers that were given none: an adjective and the surname of someone who found things out."""

import random
from collections.abc import Callable

ADJECTIVES = (
    "able agile airy alert amber ample apt ardent astute autumn azure balmy bold brave breezy bright brisk broad "
    "calm candid careful cheery clear clever cobalt cosy crisp curious daring deft dapper devoted eager earnest "
    "easy elated epic even exact fair famous fearless festive fine fleet fluent fond frank free fresh frosty "
    "gentle gifted glad golden graceful grand happy hardy hearty helpful honest humble ideal jolly jovial joyful "
    "keen kind lively loyal lucid lucky lunar mellow merry mighty mild modest neat nimble noble novel patient "
    "plucky polite prime proud quick quiet radiant rapid ready robust rosy serene sharp shiny silent silver "
    "sincere sleek smart snug solar solid spry stable steady stoic sunny sure swift tender tidy tranquil true "
    "trusty upbeat valiant vivid warm wise witty zesty"
).split()
SURNAMES = (
    "abel agnesi ampere anning archimedes aryabhata avogadro babbage banach bardeen bayes bell bernoulli bohr "
    "boltzmann boole born bose boyle brahe brahmagupta burnell cantor carson cauchy cavendish chandrasekhar "
    "chatelet church clarke copernicus coulomb crick curie dalton darwin descartes dijkstra dirac edison einstein "
    "elion engelbart euclid euler faraday fermat fermi feynman fibonacci fleming fourier franklin galileo galois "
    "gauss germain gibbs goedel goodall hamilton hardy heisenberg hermann herschel hertz hilbert hodgkin hooke "
    "hopper hubble huygens hypatia jackson jemison johnson joule kepler khayyam khorana kirch knuth kovalevsky "
    "lagrange lamarr laplace lavoisier leavitt leibniz linnaeus lorentz lovelace lumiere maxwell mcclintock meitner "
    "mendel mendeleev mirzakhani morse nash newton nightingale nobel noether ohm oppenheimer pascal pasteur pauli "
    "payne perlman planck poincare ptolemy pythagoras ramanujan ride riemann ritchie roentgen rubin rutherford "
    "sagan salk schroedinger shannon somerville tesla thompson torvalds turing vaughan volta wiles wilson wozniak "
    "wright wu yalow yonath"
).split()
TRIES = 6


def name(is_taken: Callable[[str], bool], choose: random.Random | None = None) -> str:
    """One that nobody has; a number is added once the pairs get scarce."""
    choice = choose or random.SystemRandom()
    for _ in range(TRIES):
        pair = f"{choice.choice(ADJECTIVES)}_{choice.choice(SURNAMES)}"
        if not is_taken(pair):
            return pair
    while True:
        numbered = f"{pair}{choice.randrange(10, 1_000_000)}"
        if not is_taken(numbered):
            return numbered
