"""Parts of pages that Streamlit has no element for."""
