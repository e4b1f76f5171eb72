import gradio as gr


def build(context):
    gr.Markdown("to come")
