"""Trains and fine-tunes the network on volumes and contours that a site has: `python -m voxtell.training --help`.

The way of the data, and the module for each step:

    dataset       a JSON file that lists volumes, contours and words; `complete` adds masks of trained models to it
    cache         volumes cut to the body as arrays on disk; `setup.add_phantoms` adds drawn ones
    sampling      patch after patch with prompts from `vocabulary`, changed by `augment`
    loop          gradient steps with the loss of `losses`; `checks` looks at validation patches meanwhile
    export        the averaged weights as a model directory, with the card from `cards`; `widen` starts a larger network
    measure       figures on validation patients by `scores`; `report` and `plot` make the model card, `ablation`
    compares

Arrays are (S, A, R): index 0 grows to superior, 1 to anterior, 2 to right. P prompts, K structures, E numbers per
embedding.
"""
