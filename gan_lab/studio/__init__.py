"""A live page on this machine (`scripts/studio.py`): train and watch, play with latent vectors, read reports.

`worker` trains in a process of its own, `live` is the callback with which it reports and obeys, `messages` is what the
two processes tell each other. `trainings` is the server's side of it, `drawing` makes pictures of what comes, `play`
opens finished runs, `security` says who may ask for what, and the modules `*_page` are the pages. Only `app` and the
pages import NiceGUI.
"""
