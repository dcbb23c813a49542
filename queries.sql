-- The queries of a sync. The comment above each says how its rows become Iterable calls (README, "queries.sql").
-- Standard SQL, so that the file runs unchanged on SQLite, PostgreSQL, MySQL, MariaDB and most warehouses.

-- name: pro_users_recent_engagement
-- Pro customers who viewed pricing or settings in the window, each with the latest such view.
-- email: email
-- user fields: first_name, last_name, plan_type, candidate
-- event: page_view
-- event fields: page, device, browser, location, candidate
-- event time: event_time
-- event id: id, event_time, page
SELECT id, email, first_name, last_name, plan_type, candidate, page, device, browser, location, event_time
FROM (
    SELECT c.id, c.email, c.first_name, c.last_name, c.plan_type, c.candidate,
           v.page, v.device, v.browser, v.location, v.event_time,
           ROW_NUMBER() OVER (PARTITION BY c.id ORDER BY v.event_time DESC, v.id DESC) AS recency
    FROM customers c
    JOIN page_views v ON v.user_id = c.id
    WHERE c.plan_type = 'pro'
      AND v.page IN ('pricing', 'settings')
      AND v.event_time >= :since
      AND v.event_time <= :until
) qualifying
WHERE recency = 1
ORDER BY id;

-- name: pro_users_page_views
-- Every such view as an event; ids are those of the query above, so that running both doubles none.
-- email: email
-- event: page_view
-- event fields: page, device, browser, location, candidate
-- event time: event_time
-- event id: id, event_time, page
SELECT c.id, c.email, c.candidate, v.page, v.device, v.browser, v.location, v.event_time
FROM customers c
JOIN page_views v ON v.user_id = c.id
WHERE c.plan_type = 'pro'
  AND v.page IN ('pricing', 'settings')
  AND v.event_time >= :since
  AND v.event_time <= :until
ORDER BY v.event_time, v.id;

-- name: engagement_by_page
-- A report: how many such views each page had, and of how many customers.
SELECT v.page, COUNT(*) AS views, COUNT(DISTINCT c.id) AS users
FROM customers c
JOIN page_views v ON v.user_id = c.id
WHERE c.plan_type = 'pro'
  AND v.page IN ('pricing', 'settings')
  AND v.event_time >= :since
  AND v.event_time <= :until
GROUP BY v.page
ORDER BY v.page;
