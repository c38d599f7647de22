-- Where the events are.
\set ON_ERROR_STOP on
\getenv bootstrap ODS_DEMO_BOOTSTRAP

CREATE EXTENSION ods;

CREATE SERVER shop FOREIGN DATA WRAPPER ods_kafka OPTIONS ("bootstrap.servers" :'bootstrap');
CREATE USER MAPPING FOR CURRENT_USER SERVER shop;
