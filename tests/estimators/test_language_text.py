"""Questions and answers of the language paper, the vocabulary of numbers, and the grammar of answers."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.language import llama_tokenizer

from specxr.estimators.language import text
from specxr.estimators.language.grammar import Digits, Grammar
from specxr.estimators.language.tokens import NumberTokens, TextTokens
from specxr.published.language import PROMPT_FORMAT, SECOND_STAGE_LABELS
from specxr.vocabulary import LABELS

BOUNDS = {"teff": (3500.0, 14000.0), "logg": (0.5, 5.0), "feh": (-2.5, 0.5)}
STAR = st.builds(dict, **{name: st.floats(*ends) for name, ends in BOUNDS.items()})
ABUNDANCES = st.dictionaries(st.sampled_from(SECOND_STAGE_LABELS), st.floats(-3, 3), min_size=1)

NUMBERS = NumberTokens(BOUNDS)


@functools.cache
def text_tokens(labels=tuple(BOUNDS)):
    return TextTokens(
        llama_tokenizer(), {name: BOUNDS.get(name, (-3.0, 3.0)) for name in labels}, (3800.0, 8700.0)
    )


def test_question_and_answer_of_the_first_stage_are_those_of_the_paper():
    flux = [0.303, 0.307, 0.302, 0.298, 0.3, 0.296, 0.295, 0.297]
    asked = text.question(text.FIRST_STAGE, (3800.0, 8700.0), flux)
    assert asked == (
        "Given the normalized flux data sorted by wavelength, from 3800 angstrom to 8700. Your task is to analyze this "
        "spectrum, and predict spectral type and physical parameters. Organize your answer in the order of ['class', "
        "'Teff', 'logg', '[Fe/H]']. <flux>0.303, 0.307, 0.302, 0.298, 0.3, 0.296, 0.295, 0.297</flux>"
    )
    said = text.answer({"teff": 3794.66, "logg": 4.628, "feh": -0.0295})
    assert said == "[ 'M',' 3 7 9 4 . 6 6 ',' 4 . 6 2 8 ',' - 0 . 0 2 9 5 ]" == PROMPT_FORMAT.first_answer
    assert text.answer({"teff": 3920.0, "logg": 4.628, "feh": 0.1}, "M1").startswith("[ 'M','")
    assert text.answer({"teff": 3920.0, "logg": 4.628, "feh": 0.1}, "sky").startswith("[ 'K','")


def test_question_and_answer_of_the_second_stage_are_those_of_the_paper():
    labels = {"c_fe": 0.15139999, "ci_fe": 0.13851999, "n_fe": -0.026254023, "mg_fe": 0.2755517}
    asked = text.question(tuple(labels), (3800.0, 8700.0), [0.303, 0.3])
    assert asked == (
        "Given the normalized flux data sorted by wavelength, from 3800 angstrom to 8700 angstrom. Your task is to "
        "analyze this spectrum, and predict physical parameters: C_FE CI_FE N_FE MG_FE. <flux>0.303, 0.3</flux>"
    )
    assert text.answer(labels) == (
        "[C_FE:' 0 . 1 5 1 3 9 9 9 9 ', CI_FE:' 0 . 1 3 8 5 1 9 9 9 ', N_FE:' - 0 . 0 2 6 2 5 4 0 2 3 ', "
        "MG_FE:' 0 . 2 7 5 5 5 1 7 ']"
    )


def test_the_labels_of_the_second_stage_are_in_the_vocabulary():
    assert set(SECOND_STAGE_LABELS) <= set(LABELS)


@given(st.lists(st.floats(-0.5, 1.5), min_size=1))
def test_flux_goes_round_to_three_decimals(values):
    asked = text.question(text.FIRST_STAGE, (3800.0, 8700.0), values)
    np.testing.assert_allclose(text.read_flux(asked), values, rtol=0, atol=0.0005000001)


@given(STAR | ABUNDANCES)
def test_answers_go_round(labels):
    again = text.read_answer(text.answer(labels), tuple(labels))
    for name, value in labels.items():
        tolerance = {"teff": 0.005, "logg": 0.0005, "feh": 0.00005}.get(name, 1e-7)
        assert again[name] == pytest.approx(value, rel=0, abs=1.001 * tolerance), name


@pytest.mark.parametrize("said", ["", "the star is hot", "[ 'M',' 3 7 . 6 ',' none ',' - 0 . 1 ]"])
def test_a_text_that_is_no_answer_is_refused(said):
    with pytest.raises(ValueError, match="has no number for each of teff, .* is required. Decode under"):
        text.read_answer(said, text.FIRST_STAGE)


def test_a_text_without_numbers_is_no_flux():
    with pytest.raises(ValueError, match="holds no flux .* required. Write it"):
        text.read_flux("<flux>bright</flux>")


def columns(grammar, tokens):
    place = {int(token): column for column, token in enumerate(grammar.ids)}
    return np.array([place[token] for token in tokens])


@given(STAR)
def test_answers_in_the_vocabulary_of_numbers_go_round(labels):
    said = NUMBERS.grammar.read(columns(NUMBERS.grammar, NUMBERS.answer(labels)))
    away = np.abs(np.array(said) - [labels[name] for name in BOUNDS])
    assert (away <= [0.5001, 0.0005001, 0.0005001]).all()


def test_the_vocabulary_of_numbers_has_a_token_for_each_pixel():
    tokens = NUMBERS
    prompt = tokens.prompt(np.array([0.0, 0.303, 1.0, -0.2, 1.7]))
    first = len(tokens.symbols)
    assert prompt[1:-1] == [first, first + 303, first + 1000, first, first + 1000]
    assert (
        len(tokens.prompt(np.zeros(4901))) + len(tokens.answer({n: e[1] for n, e in BOUNDS.items()})) < 4930
    )


@settings(max_examples=20, deadline=None)
@given(STAR | ABUNDANCES)
def test_answers_as_text_go_round_through_tokens(labels):
    tokens = text_tokens(tuple(sorted(labels, key=list(LABELS).index)))
    said = tokens.grammar.read(columns(tokens.grammar, tokens.answer(labels)))
    known = text.read_answer(text.answer(labels), tuple(labels))
    assert said == [known[name] for name in tokens.bounds]


def test_tokens_of_an_answer_are_those_of_its_text():
    """With the tokeniser of LLaMA-3 pieces of an answer are tokenised as they are within it."""
    tokeniser = llama_tokenizer()
    for labels in ({"teff": 5777.0, "logg": 4.44, "feh": -0.01}, {"c_fe": 0.1513, "n_fe": -0.02}):
        tokens = TextTokens(tokeniser, dict.fromkeys(labels, (-1.0, 9000.0)), (3800.0, 8700.0))
        assert tokens.answer(labels) == tokeniser.encode(text.answer(labels))


def test_a_pixel_of_text_takes_five_tokens():
    values = np.random.default_rng(0).uniform(0.2, 1.0, 1001).round(3)
    more = len(text_tokens().prompt(values)) - len(text_tokens().prompt(values[:1]))
    assert more == pytest.approx(5 * 1000, rel=0.01)  # this tokeniser has not all numbers of three digits


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans())
def test_whatever_is_drawn_under_the_grammar_is_an_answer(random, numbers):
    """A model that knows nothing cannot say anything that is no number."""
    tokens = NUMBERS if numbers else text_tokens()
    grammar, state, drawn = tokens.grammar, 0, []
    while state != grammar.end:
        drawn.append(random.choice(np.flatnonzero(grammar.allowed[state]).tolist()))
        state = int(grammar.successor[state, drawn[-1]])
    said = grammar.read(np.array(drawn))
    assert len(said) == 3
    assert np.isfinite(said).all()


def test_what_breaks_the_grammar_or_stops_short_is_refused():
    tokens = NUMBERS
    whole = columns(tokens.grammar, tokens.answer({"teff": 5777.0, "logg": 4.44, "feh": -0.01}))
    with pytest.raises(ValueError, match="has no end; .* required. Decode"):
        tokens.grammar.read(whole[:-1])
    with pytest.raises(ValueError, match="that the grammar allows is required. Decode"):
        tokens.grammar.read(np.append(whole[1:], whole[0]))


def test_a_tokeniser_that_cannot_tell_digits_apart_is_refused():
    counter = itertools.count()
    known = {}

    def tokens(piece):  # 1 and 2 are the same unknown word
        return (-1 if piece in ("1", "2") else known.setdefault(piece, next(counter)),)

    with pytest.raises(ValueError, match="begin another piece of an answer; .* required. Use another"):
        Grammar(["teff ", Digits((4, 4), (0, 0), ("",), "")], tokens)
