"""How busy are Services, and how is that counted?"""
