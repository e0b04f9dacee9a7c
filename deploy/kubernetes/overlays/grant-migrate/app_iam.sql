GRANT app TO app_iam;
ALTER ROLE app_iam SET role TO app;
-- Add a line for each setting and limit of app, for example:
-- ALTER ROLE app_iam SET search_path TO shop, public;
-- ALTER ROLE app_iam CONNECTION LIMIT 50;
