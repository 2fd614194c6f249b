"""One search of the teacher, thread by thread."""

from star import PathStar

from apr.languages.tags import Tags
from apr.train.searches import search_samples

language = Tags()
search = PathStar().search({}, split="train", seed=0, index=0, progress=1.0)
for sample in search_samples(search, language, {}):
    tokens, own = len(sample.token_ids), sum(sample.loss_mask)
    print(f"--- thread {sample.thread}: {tokens} tokens, {own} of them the model's own")
    print(language.text(sample.token_ids))
