"""Search over HTTP: ``l2v serve``. Reads the served state, like ``tasks.queries``, and never imports prefect.

==================  ================================================================================
``api``             the application: search, explanations, health, the pages
``judging``         routes that show pairs and keep answers, with ``--judge`` only
``guard``           who may ask, how much at once, and how large a request may be
``server``          address, port and token; runs the application until it is stopped
``page.html``       the page for people, with ``page.js``, ``judge.js`` and ``page.css``
``reference.j2``    the page that describes the API, made from its OpenAPI schema
==================  ================================================================================

Does not belong here: ranking and explaining (``tasks.queries``), which the command line shares.
"""
