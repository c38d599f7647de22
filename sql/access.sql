-- Who may call what. Functions that change state or read a source are for those who are granted
-- them; check_server and discover also ask for USAGE on the server.
REVOKE ALL ON FUNCTION ods.check_server(text, text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.discover(text) FROM PUBLIC;
