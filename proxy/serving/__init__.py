"""What does headgate answer over HTTP: its health, its figures, and which Services it serves?"""
