"""Do the files of deploy/ fit the program?"""
