-- A small shop: fill two tables, index one, join them, change some rows. The blobs make rows of
-- real size without the cost of composing text.
create table customer(id integer primary key, photo blob, city integer);
create table sale(id integer primary key, customer integer, cents integer, scan blob);
begin;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 200)
  insert into customer select i * 7919 % 100003, zeroblob(3000), i % 97 from n;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 520)
  insert into sale select i * 6151 % 100019, (1 + i * 7 % 200) * 7919 % 100003, i * 31 % 9973,
    zeroblob(2300) from n;
commit;
create index sale_customer on sale(customer);
select city, count(*), sum(cents) from sale join customer on customer.id = sale.customer
  where city < 4 group by city order by sum(cents) desc;
update sale set cents = cents + 1 where customer in (select id from customer where city = 3);
delete from sale where id % 5 = 0;
select count(*), sum(cents) from sale;
