"""Send a problem to `apr serve --threads` with OpenAI's client, and print the threads behind the answer.

apr serve --threads &
python client.py http://127.0.0.1:30000/v1
"""

from sys import argv

from openai import OpenAI

PROMPT = "Moving to Node #0\nCurrent State: 27:[22, 26, 31, 53], Operations: []"

client = OpenAI(base_url=argv[1], api_key="none")
[model] = client.models.list()
answer = client.completions.create(model=model.id, prompt=PROMPT, temperature=0, extra_body={"apr": {"budget": 6}})
tree = answer.model_extra["apr"]
for thread in tree["threads"]:
    print(thread["id"], thread["reason"], thread["tokens"], "tokens")
print(tree["verdict"], *tree["steps"])
