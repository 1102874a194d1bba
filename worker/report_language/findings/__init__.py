"""Findings of a sentence: their phrase, place and context, and the prompt that they become.

    mentions > lists, shared_places > places   which findings the sentence names, each with its own words and place
    separate_places                            places that the sentence names apart from a finding
    context                                    negated, uncertain, historical, resolved
    prompt_text                                the words of the prompt

Everything works on the chunks of one sentence (`language.chunks`); spans are (from, to), `to` exclusive.
"""
