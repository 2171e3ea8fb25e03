"""For people: folders of HTML that open without a server and ask for nothing outside themselves."""
