"""A real Chromium: the example's widget on a page of another origin, and the page at /docs."""

import functools
import http.server
import json
import os
import pathlib
import threading
import time
import urllib.request

from lossy import LossyNetwork
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

WIDGET = pathlib.Path(__file__).resolve().parents[2] / "examples/javascript"
PATIENCE = 60


class Quiet(http.server.SimpleHTTPRequestHandler):
    # What a module must be served as does not depend on the machine's own table.
    extensions_map = {".html": "text/html", ".mjs": "text/javascript"}

    def log_message(self, *arguments):
        pass


def checks(server, folder):
    def pages():
        handler = functools.partial(Quiet, directory=WIDGET)
        served = http.server.ThreadingHTTPServer(("127.0.0.1", server.page_port), handler)
        threading.Thread(target=served.serve_forever, daemon=True).start()
        return served

    def chromium():
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
                         "disable-background-networking", "disable-component-update", "disable-sync",
                         "disable-dev-shm-usage", f"user-data-dir={os.path.join(folder, 'chromium')}"):
            options.add_argument(f"--{argument}")
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))

    def wait_for(condition):
        end = time.monotonic() + PATIENCE
        while not (found := condition()):
            assert time.monotonic() < end, "nothing in the page"
            time.sleep(0.05)
        return found

    def send(browser, webhook, text):
        for name, value in (("url", webhook), ("key", server.browser_key), ("user", "user_browser"), ("text", text)):
            field = browser.find_element(By.ID, name)
            field.clear()
            field.send_keys(value)
        browser.find_element(By.TAG_NAME, "button").click()

    def sent(browser, text):
        """The answer and the sid of a message that the page shows as sent."""
        for line in browser.find_elements(By.CSS_SELECTOR, "#sent li[data-sid]"):
            if line.text == f"{text} sent":
                return line.get_attribute("data-answer"), line.get_attribute("data-sid")
        return None

    def within_a_browser(check):
        served, browser = pages(), chromium()
        try:
            check(browser)
        finally:
            browser.quit()
            served.shutdown()
            served.server_close()

    def the_widget_sends_across_origins_and_the_message_is_in_once():
        def check(browser):
            browser.get(f"{server.page_origin}/widget.html")
            network = LossyNetwork(server.http, losses=2)
            send(browser, server.url().replace(server.http, network.address), "hello from a page")
            answer, sid = wait_for(lambda: sent(browser, "hello from a page"))
            network.close()
            assert (answer, network.lost) == ("Already processed", 2)
            assert server.feed().count(("acme", "dev", sid)) == 1
            assert browser.execute_script("return localStorage.outbox") == "[]"
        within_a_browser(check)

    def a_widget_that_was_closed_without_an_answer_keeps_its_sid():
        def check(browser):
            browser.get(f"{server.page_origin}/widget.html")
            network = LossyNetwork(server.http, losses=1_000_000)
            send(browser, server.url().replace(server.http, network.address), "before")
            wait_for(lambda: network.lost > 0 and "trying again" in browser.find_element(By.ID, "sent").text)
            (kept,) = json.loads(browser.execute_script("return localStorage.outbox"))
            browser.refresh()
            network.close()
            send(browser, server.url(), "after")
            wait_for(lambda: sent(browser, "after"))
            answer, sid = wait_for(lambda: sent(browser, "before"))
            assert (answer, sid) == ("Already processed", kept["message_sid"])
            assert server.feed().count(("acme", "dev", sid)) == 1
        within_a_browser(check)

    def a_message_whose_key_was_refused_stays_and_goes_with_a_good_one():
        def check(browser):
            browser.get(f"{server.page_origin}/widget.html")
            browser.execute_script("const real = window.fetch; window.fetch = async () => { window.fetch = real;"
                                   " return new Response('{\"message\": \"of no use\"}', { status: 401 }); };")
            send(browser, server.url(), "early")
            wait_for(lambda: "of no use" in browser.find_element(By.ID, "sent").text)
            (kept,) = json.loads(browser.execute_script("return localStorage.outbox"))
            send(browser, server.url(), "late")
            answer, sid = wait_for(lambda: sent(browser, "early"))
            assert (answer, sid) == ("Message received and processed", kept["message_sid"])
            wait_for(lambda: browser.execute_script("return localStorage.outbox") == "[]")
        within_a_browser(check)

    def the_docs_page_shows_the_document_and_asks_nobody_else():
        def check(browser):
            browser.get(f"http://{server.http}/docs")
            wait_for(lambda: browser.find_elements(By.TAG_NAME, "h2"))
            text = browser.find_element(By.TAG_NAME, "body").text
            assert "/{org_id}/{env}/v1/message-webhook" in text, text
            with urllib.request.urlopen(f"http://{server.http}/openapi.json", timeout=20) as answer:
                document = json.load(answer)
            (operation,) = [each["post"] for each in document["paths"].values()]
            expected = [document["info"]["title"], *operation["responses"],
                        *(name for schema in document["components"]["schemas"].values() for name in schema["properties"])]
            assert [each for each in expected if each not in text] == [], text
            events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
            # The browser's own pages ask for things too.
            asked = {event["params"]["request"]["url"] for event in events
                     if event["method"] == "Network.requestWillBeSent"
                     and not event["params"]["documentURL"].startswith("chrome:")}
            assert f"http://{server.http}/openapi.json" in asked, asked
            assert all(url.startswith(f"http://{server.http}/") for url in asked), asked
            # There is no icon; nothing else may be amiss.
            complaints = [entry for entry in browser.get_log("browser") if "favicon" not in entry["message"]]
            assert complaints == [], complaints
        within_a_browser(check)

    return [the_widget_sends_across_origins_and_the_message_is_in_once,
            a_widget_that_was_closed_without_an_answer_keeps_its_sid,
            a_message_whose_key_was_refused_stays_and_goes_with_a_good_one,
            the_docs_page_shows_the_document_and_asks_nobody_else]
