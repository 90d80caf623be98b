"""The page of ``launch/app.py``: what the commands do, in a browser.

``page`` alone knows Gradio; the functions behind its buttons are plain Python over an embedder.
"""
